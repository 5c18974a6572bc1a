"""Study files and their settings."""
