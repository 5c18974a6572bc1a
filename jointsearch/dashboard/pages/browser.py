"""Callbacks that the browser answers itself, by the functions of ``assets``."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash


def in_browser(app: Dash, function: str, *parts: Any, first: bool = True) -> None:
    """``function``: ``namespace.name``; ``parts``: outputs, inputs and states; ``first``: whether it is asked
    when the page comes."""
    register: Any = app.clientside_callback
    namespace, _, name = function.partition(".")
    register(ClientsideFunction(namespace, name), *parts, prevent_initial_call=not first)
