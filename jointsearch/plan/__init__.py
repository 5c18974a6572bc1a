"""Plans, layouts, and what they weigh."""
