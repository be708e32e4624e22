"""A release as a static folder that makes endless music in a browser tab."""
