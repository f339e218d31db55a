function data = readnpy(filename)
%READNPY  The array in a .npy file, in GNU Octave and MATLAB, without any package.
%
%   DATA = READNPY(FILENAME) has the shape and the class that the file says: uint8 to int64, single,
%   double, logical. An array of one dimension is a column. Written from the numpy.lib.format
%   specification: versions 1, 2 and 3, either byte order, C and Fortran order.
%
%   The whole file is read in one go, from its beginning to its end.

  [fid, reason] = fopen(filename, 'r');
  if fid < 0
    error('readnpy:open', '%s: %s', filename, reason);
  end
  closing = onCleanup(@() fclose(fid));
  header = read_header(fid, filename);
  [class_name, byte_order, is_logical] = read_type(header, filename);
  shape = read_shape(header, filename);

  count = prod(shape);
  data = fread(fid, count, ['*' class_name], 0, byte_order);
  if numel(data) ~= count
    error('readnpy:short', '%s ends after %d of %d values', filename, numel(data), count);
  end
  if is_logical
    data = data ~= 0;
  end
  if numel(shape) < 2
    data = reshape(data, [shape 1 1]);  % a column; of no dimension, one value
  elseif is_fortran(header, filename)
    data = reshape(data, shape);
  else
    % the last index changes fastest in C, the first one here
    data = permute(reshape(data, fliplr(shape)), numel(shape):-1:1);
  end
end

function header = read_header(fid, filename)
  % the text of a Python dictionary: {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
  magic = fread(fid, 8, 'uint8=>uint8')';
  if numel(magic) < 8 || ~isequal(magic(1:6), [147 double('NUMPY')])
    error('readnpy:format', '%s is no npy file', filename);
  end
  switch magic(7)
    case 1
      bytes = fread(fid, 1, 'uint16', 0, 'ieee-le');
    case {2, 3}
      bytes = fread(fid, 1, 'uint32', 0, 'ieee-le');
    otherwise
      error('readnpy:format', '%s: version %d of the format is not known', filename, magic(7));
  end
  header = fread(fid, bytes, 'uint8=>char')';
  if isempty(bytes) || numel(header) ~= bytes
    error('readnpy:short', '%s ends within its header', filename);
  end
end

function found = read_field(header, pattern, filename)
  found = regexp(header, pattern, 'tokens', 'once');
  if isempty(found)
    error('readnpy:type', '%s holds no plain array of numbers: %s', filename, strtrim(header));
  end
end

function [class_name, byte_order, is_logical] = read_type(header, filename)
  found = read_field(header, '''descr''\s*:\s*''([<>|=])([biuf])(\d+)''', filename);
  types = struct('b1', 'uint8', 'i1', 'int8', 'i2', 'int16', 'i4', 'int32', 'i8', 'int64', ...
                 'u1', 'uint8', 'u2', 'uint16', 'u4', 'uint32', 'u8', 'uint64', ...
                 'f4', 'single', 'f8', 'double');
  type = [found{2} found{3}];
  if ~isfield(types, type)
    error('readnpy:type', '%s holds numbers of type %s, which have no class here', filename, type);
  end
  class_name = types.(type);
  is_logical = strcmp(type, 'b1');
  byte_order = 'ieee-le';
  if found{1} == '>'
    byte_order = 'ieee-be';
  end
end

function shape = read_shape(header, filename)
  found = read_field(header, '''shape''\s*:\s*\(([\d\s,L]*)\)', filename);
  shape = reshape(str2double(regexp(found{1}, '\d+', 'match')), 1, []);
end

function answer = is_fortran(header, filename)
  found = read_field(header, '''fortran_order''\s*:\s*(True|False)', filename);
  answer = strcmp(found{1}, 'True');
end
