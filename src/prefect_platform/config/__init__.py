"""What is declared: settings, stacks, and the rules between them. Pure; knows no target."""
