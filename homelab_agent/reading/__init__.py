"""Reading sync: what was read, from where it is collected into PostgreSQL, with a proof that all of it came."""
