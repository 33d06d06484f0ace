#!/bin/sh
# The bucket, and two users with just what they need. Running it again changes nothing.
# MinIO's image of mc has a shell and cat, but neither sed nor grep.
set -eu
BUCKET=lake

allow() { # ROLE KEY SECRET
  eval "cat <<END
$(cat "/policies/$1.json")
END" >"/tmp/$1.json"
  mc admin policy create store "mnemo-$1" "/tmp/$1.json"
  mc admin user add store "$2" "$3"
  case "$(mc admin user info store "$2")" in
  *"mnemo-$1"*) ;; # attached before; once more would be an error
  *) mc admin policy attach store "mnemo-$1" --user "$2" ;;
  esac
}

mc alias set store "$STORE_ENDPOINT" "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" >/dev/null
mc mb --ignore-existing "store/$BUCKET"
allow writer "$STORE_WRITER_KEY" "$STORE_WRITER_SECRET"
allow reader "$STORE_READER_KEY" "$STORE_READER_SECRET"
