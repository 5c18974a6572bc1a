"""The rules, each with its name; kin share a file."""
