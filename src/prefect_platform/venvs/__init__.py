"""Python environments made from hashed locks."""
