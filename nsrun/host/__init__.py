"""The machine as it is: facts for the planner, causes of failures, and what the kernel can do."""
