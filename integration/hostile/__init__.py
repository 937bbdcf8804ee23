"""What comes from outside and means harm, or cannot be what it says."""
