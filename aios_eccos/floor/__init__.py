"""What a success is worth, and what moves that: price curve, modes, control, alarm."""
