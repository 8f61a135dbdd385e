"""Files at URLs: file, http, https, ftp, ftps, s3 and gs; found, listed, read and written in bounded memory."""
