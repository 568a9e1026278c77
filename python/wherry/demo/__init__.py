"""`wherry demo`: a year of real flights through the broker, checked against the data itself.

- `run.py`: the parent; starts the broker's process, kills it if asked to, compares and reports.
- `replay.py`: the broker's process; publishes, applies, aggregates (`python -m wherry.demo`).
- `flights.py`: the data as events in time order.
- `tables.py`: the tables that the subscribers build, and the same tables computed directly.
"""
