"""What runs Baton: the command line, the local stack, the demo, the doctor, the prefork engine, the sample API."""
