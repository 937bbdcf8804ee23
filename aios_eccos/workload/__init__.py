"""Who is free: slots of models lent to calls, shared by every kernel on one Redis."""
