# readnpy(path): the array in a .npy file, without any package.
#
# A vector for one dimension, else an array of the file's shape. R has neither unsigned nor 64-bit
# integers: those become doubles, and 64-bit ones beyond 2^53 are an error, since a double would
# change them. Written from the numpy.lib.format specification: versions 1, 2 and 3, either byte
# order, C and Fortran order.

readnpy <- function(path) {
  con <- file(path, "rb")
  on.exit(close(con))
  header <- npy_header(con, path)
  descr <- npy_field(header, "'descr'\\s*:\\s*'([<>|=][biuf]\\d+)'", path)
  fortran <- npy_field(header, "'fortran_order'\\s*:\\s*(True|False)", path) == "True"
  sizes <- npy_field(header, "'shape'\\s*:\\s*\\(([0-9, L]*)\\)", path)
  shape <- as.numeric(regmatches(sizes, gregexpr("[0-9]+", sizes))[[1]])

  count <- prod(shape)
  data <- npy_values(con, descr, count, path)
  if (length(data) != count) {
    stop(path, " ends after ", length(data), " of ", count, " values")
  }
  if (length(shape) < 2) return(data)
  # the last index changes fastest in C, the first one here
  if (fortran) array(data, shape) else aperm(array(data, rev(shape)))
}

# the text of a Python dictionary: {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
npy_header <- function(con, path) {
  magic <- readBin(con, "raw", 8)
  if (length(magic) < 8 || !identical(magic[1:6], as.raw(c(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59)))) {
    stop(path, " is no npy file")
  }
  version <- as.integer(magic[7])
  if (version < 1 || version > 3) stop(path, ": version ", version, " of the format is not known")
  size <- if (version == 1) 2 else 4
  bytes <- readBin(con, "integer", 1, size, signed = size == 4, endian = "little")
  header <- readBin(con, "raw", bytes)
  if (length(header) != bytes) stop(path, " ends within its header")
  rawToChar(header)
}

npy_field <- function(header, pattern, path) {
  found <- regmatches(header, regexec(pattern, header, perl = TRUE))[[1]]
  if (length(found) < 2) stop(path, " holds no plain array of numbers: ", trimws(header))
  found[2]
}

npy_values <- function(con, descr, count, path) {
  endian <- if (substr(descr, 1, 1) == ">") "big" else "little"
  integers <- function(n, size, signed = TRUE) {
    readBin(con, "integer", n, size, signed = signed, endian = endian)
  }
  # R takes one of the 32-bit values for NA
  words <- function(n) {
    found <- as.numeric(integers(n, 4))
    found[is.na(found)] <- -2^31
    found
  }
  unsigned <- function(found) ifelse(found < 0, found + 2^32, found)
  long <- function(high_part) {
    halves <- matrix(words(2 * count), nrow = 2)
    if (endian == "big") halves <- halves[2:1, , drop = FALSE]
    found <- unsigned(halves[1, ]) + high_part(halves[2, ]) * 2^32
    if (any(abs(found) > 2^53)) stop(path, " holds integers that R cannot hold exactly")
    found
  }
  switch(substring(descr, 2),
    b1 = as.logical(integers(count, 1)),
    i1 = integers(count, 1),
    i2 = integers(count, 2),
    u1 = integers(count, 1, signed = FALSE),
    u2 = integers(count, 2, signed = FALSE),
    i4 = { found <- words(count); if (any(found == -2^31)) found else as.integer(found) },
    u4 = unsigned(words(count)),
    i8 = long(identity),
    u8 = long(unsigned),
    f4 = readBin(con, "numeric", count, 4, endian = endian),
    f8 = readBin(con, "numeric", count, 8, endian = endian),
    stop(path, " holds numbers of type ", descr, ", which R does not have")
  )
}
