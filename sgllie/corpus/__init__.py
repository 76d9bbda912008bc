"""Which files a job works on."""
