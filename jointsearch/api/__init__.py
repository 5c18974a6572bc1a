"""What ``import jointsearch`` offers: studies as objects, and what comes of them."""
