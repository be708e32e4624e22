"""What is done with a release: files in, files out, progress events. CLI, Dagster jobs and web call these.

Importing the package loads no model code; each service is a module of its own.
"""
