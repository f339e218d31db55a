/* Looks at a file and lists a folder as a 32-bit program without large-file support does:
   prints the file's inode number, and each name with its number; the errno of what fails. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

int main(int count, char **arguments)
{
    struct stat found;
    struct dirent *entry;
    DIR *folder;

    if (count != 3)
        return 2;
    if (stat(arguments[1], &found))
        printf("stat failed %d\n", errno);
    else
        printf("stat %lu\n", (unsigned long)found.st_ino);
    folder = opendir(arguments[2]);
    if (folder == NULL) {
        printf("opendir failed %d\n", errno);
        return 0;
    }
    errno = 0;
    while ((entry = readdir(folder)) != NULL)
        printf("%lu %s\n", (unsigned long)entry->d_ino, entry->d_name);
    if (errno)
        printf("readdir failed %d\n", errno);
    closedir(folder);
    return 0;
}
