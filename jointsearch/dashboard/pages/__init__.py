"""Tables and figures put into pages, as Dash components. React renders every text as text.

A page is a module: what it shows, and ``add_callbacks`` where it answers to a clock or a person.
"""
