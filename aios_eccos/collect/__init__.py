"""QAServe records from the operator's own models: ask, grade, journal, record."""
