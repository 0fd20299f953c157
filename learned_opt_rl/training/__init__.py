"""Re-discovers artifacts; so far by distilling closed forms into OPEN's network."""
