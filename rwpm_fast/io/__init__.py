"""Read images, write results whole or not at all and never over an input, and print what cannot end the work."""
