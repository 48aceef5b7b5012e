"""Read images, write results whole or not at all, and show progress on a terminal."""
