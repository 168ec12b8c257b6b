"""(tasks, preferences, budget) -> a plan: prices, worth, Pareto sets, the optimum."""
