"""Plans -> answers: batches, sessions and their tiers, the controller that keeps predictions true."""
