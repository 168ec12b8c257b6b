"""A camera, file or network stream -> every frame answered at a steady rate, and shown."""
