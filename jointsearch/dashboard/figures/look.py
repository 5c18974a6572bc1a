"""How pages and figures look: two palettes, and what a figure is drawn for.

Every text has a contrast of at least 4.5 on its ground (WCAG 2.2, AA). The colour-blind tell colours apart,
and shapes, icons and words say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Palette:
    """Colours by what they are for."""

    page: str
    card: str
    ink: str
    soft: str
    """Texts of less weight."""
    line: str
    grid: str
    blue: str
    """What was searched, and what a person can press."""
    red: str
    """Ranks."""
    ref: str
    """Uniform plans."""
    grey: str
    """Other trials."""
    band: str
    """Credible intervals."""
    good: str
    warn: str
    bad: str
    bits: tuple[str, ...]
    """Formats, the coarsest first."""
    bits_ink: tuple[str, ...]
    """What is written on them."""
    rank: tuple[str, ...]
    """No adapter, then rising ranks."""
    rank_ink: tuple[str, ...]

    def variables(self) -> str:
        """As CSS: ``--page:#F6F7F9;…``, and one variable for each step of a scale."""
        found: dict[str, str] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            name = field.name.replace("_", "-")
            found |= {name: value} if isinstance(value, str) else dict(zip(_steps(name), value, strict=False))
        return ";".join(f"--{name}:{colour}" for name, colour in found.items())


def _steps(name: str) -> list[str]:
    return [f"{name}-{step}" for step in range(5)]


LIGHT = Palette(
    page="#F6F7F9",
    card="#FFFFFF",
    ink="#16191D",
    soft="#59616B",
    line="#E1E5EA",
    grid="#EDF0F3",
    blue="#0B6BB8",
    red="#C2500A",
    ref="#2B3138",
    grey="#9AA3AD",
    band="rgba(11,107,184,.13)",
    good="#0B7A55",
    warn="#8A5A00",
    bad="#B3261E",
    bits=("#D3E6F6", "#6FB1E2", "#0B4F8A"),
    bits_ink=("#16191D", "#16191D", "#FFFFFF"),
    rank=("#F3F4F6", "#FBE3C8", "#F2B36B", "#C2500A", "#7A2E00"),
    rank_ink=("#59616B", "#16191D", "#16191D", "#FFFFFF", "#FFFFFF"),
)
DARK = Palette(
    page="#0F1216",
    card="#171B21",
    ink="#E9ECEF",
    soft="#A3ACB7",
    line="#2B323B",
    grid="#232930",
    blue="#5CB3F0",
    red="#F59152",
    ref="#D5DBE1",
    grey="#6C7681",
    band="rgba(92,179,240,.16)",
    good="#4CC79A",
    warn="#E3B04B",
    bad="#FF8A80",
    bits=("#1E3A52", "#2A74AE", "#A9D8FA"),
    bits_ink=("#E9ECEF", "#FFFFFF", "#10161C"),
    rank=("#20262D", "#4A3321", "#8A4F1B", "#D97B30", "#FFC48F"),
    rank_ink=("#A3ACB7", "#E9ECEF", "#FFFFFF", "#10161C", "#10161C"),
)
SCHEMES = (
    f":root,:root[data-mantine-color-scheme=light]{{color-scheme:light;{LIGHT.variables()}}}"
    f":root[data-mantine-color-scheme=dark]{{color-scheme:dark;{DARK.variables()}}}"
)
"""Both palettes as CSS; pages name the variables alone."""


@dataclass(frozen=True)
class Look:
    """What a figure is drawn for."""

    dark: bool = False
    phone: bool = False
    """Whether the window is at most 640 pixels wide."""
    titled: bool = True
    """Whether a figure says what it is; on a page its card does."""

    @property
    def palette(self) -> Palette:
        return DARK if self.dark else LIGHT


PAPER = Look()
"""Of reports, pictures and notebooks."""
DARK_PAPER = Look(dark=True)
"""Of reports that are read on a dark screen."""


def step_of(position: int, count: int, steps: int) -> int:
    """The step of a scale for one of ``count`` things in order: spread over it, the ends at its ends."""
    return round(position * (steps - 1) / (count - 1)) if count > 1 else 0
