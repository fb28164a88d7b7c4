// Nothing: the build compiles the header that most tests share with it, once.
