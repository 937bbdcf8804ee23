"""What speaks to model servers: requests out, answers, token counts and failures in."""
