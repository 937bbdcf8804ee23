"""Studies of forecasts and floors on recorded answers: the parts of `evaluate-predictor`."""
