"""Files in and out: images, results written whole or not at all, progress on a terminal."""
