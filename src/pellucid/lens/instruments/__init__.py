"""The instruments of interpretability: functions that compute a result from a trace or a model, one module each."""
