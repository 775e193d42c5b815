"""All history moves to another PostgreSQL while the agent works: copied by pieces, held against the source, switched.

What is done already is what the target's rows say: a piece whose count agrees is not copied again, whoever was killed
in between. So nothing is noted but which records the move has brought (`records.py`).
"""
