"""A model, data, metric and Trainer that a person hands over in Python."""
