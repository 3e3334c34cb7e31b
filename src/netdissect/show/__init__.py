"""Where people look: tables, figures and the report. Reads results only, never a network."""
