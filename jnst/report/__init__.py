"""What is made for looking at: contact sheets."""
