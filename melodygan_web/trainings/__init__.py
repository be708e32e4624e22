"""Trainings as Dagster knows them while they run: their runs, figures at each validation, and time left."""
