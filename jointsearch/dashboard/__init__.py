"""The dashboard: rows of a storage → tables → figures → pages. No torch."""
