"""Weight formats that torch can multiply by, one file each; ``plan.formats`` describes them without torch."""
