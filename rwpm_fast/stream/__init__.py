"""Score the frames of a video, a camera or a robot's recording at the rate at which they come."""
