"""Sources in Python to copy into flows/sources, where the file's name becomes the system's. Tests run them."""
