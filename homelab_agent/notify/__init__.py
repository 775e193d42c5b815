"""What needs a person reaches their phone; that the agent is silent is missed by somebody else."""
