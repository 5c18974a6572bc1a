"""What a study has shown."""
