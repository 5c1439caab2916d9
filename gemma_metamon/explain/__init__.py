"""What an agent reads, thinks and does in a battle, decision by decision, and a web page of it."""
