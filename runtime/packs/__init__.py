"""Task packs: tasks that were added to a bundle after it was made, each in a small folder of its own."""
