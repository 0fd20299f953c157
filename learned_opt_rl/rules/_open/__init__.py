"""The network of OPEN and No Features, and the tables it reads."""
