"""What targets on one machine share: everything under one supervisord."""
