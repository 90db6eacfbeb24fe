"""What `./invoke` is: Invoke's program with this repository's tasks, its configuration, and its words for mistakes."""
