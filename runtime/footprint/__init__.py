"""What is in memory: of the process, of the sessions, of each task's experts."""
