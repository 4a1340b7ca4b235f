"""What people do to software: settings, files and command lines that make no sense, in great numbers."""
