"""What is damaged in a store, and mending it."""
