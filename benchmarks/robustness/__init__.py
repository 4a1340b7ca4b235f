"""What happens at the edges: odd paths, kills, full disks, damaged files."""
